"""Model processes: started in an environment, reached by their actors."""
