"""SONew's tridiagonal LogDet projection in low precision, on gradient statistics of a deep autoencoder."""
