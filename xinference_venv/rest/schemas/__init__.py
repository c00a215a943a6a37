"""The shapes of requests and responses, as pydantic models."""
