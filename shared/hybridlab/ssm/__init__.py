"""State space models and their kin: memories of a fixed size that read texts of any length."""
