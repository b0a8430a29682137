"""`dfkit doctor`: whether this installation, machine and workspace are as dfkit needs them; no torch is imported."""
