"""The routes of the REST API, a module for each part of it."""
