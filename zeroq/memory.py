"""Which errors say that memory could not be had; most are not of a type of their own."""

# What PyTorch, oneDNN, CUDA, onnxruntime and C++ say.
SAID = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation", "allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is of memory that does not suffice."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in SAID)
