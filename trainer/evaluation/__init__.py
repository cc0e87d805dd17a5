"""What is measured on items that are not trained: preflight check, evaluation and its outcomes."""
