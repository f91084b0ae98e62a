"""The drawing page: shows what the network reads while the user draws, and its API.

guard    limits of a connection before there is a request
schema   what the API takes and returns, for its OpenAPI description
answers  a request → the bytes of its answer, within limits of bytes, pixels and time
app      API and page as an ASGI application: ``uvicorn nnpipe.demo.app:app``
server   the application on a port, for ``nnpipe demo``
static/  the page: plain HTML, CSS and JavaScript that load nothing from other servers
"""
