"""The REST API (extra ``web``): HTTP requests in, JSON out, every effect through a client.

`app.create_app` makes the application, `server.served` runs it. The paths, parameters and fields
are Xinference's where it has them.
"""
