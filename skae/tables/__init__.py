"""Tables with numbers, booleans and categories, as matrices and back."""
