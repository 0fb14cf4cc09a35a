"""What leaves the project: ONNX files, and calibration sets for other tools."""
