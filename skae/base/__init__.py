"""What every room stands on: scikit-learn's bases, and the check of parameters and arguments."""
