"""Field interactions learned by MMFI."""
