"""What :func:`pyrcnn.deploy.export` writes: detectors as programs that check their input themselves."""
