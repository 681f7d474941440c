"""The thesis' test environment: known faces, simulated detectors, the protocol."""
