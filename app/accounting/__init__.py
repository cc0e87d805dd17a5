"""What projects use and may use: counted in one place, summed up by day, and held to their limits."""
