"""What the documents state in numbers: each module gives the passages of one document, made from the records."""
