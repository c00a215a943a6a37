"""What lies in installed packages, read off their RECORDs (PEP 376)."""
