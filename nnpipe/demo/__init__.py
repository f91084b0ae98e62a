"""The drawing page: what the network reads while one draws, and the API that the page asks.

limits   how much a request may ask for
guard    how much a connection may ask for before there is a request
hosts    the names that the server answers to
answers  what the API answers, as its OpenAPI describes it
app      the API and the page, an ASGI application: ``uvicorn nnpipe.demo.app:app``
server   that application on a port, for ``nnpipe demo``
static/  the page: plain HTML, CSS and JavaScript, which load nothing from elsewhere
"""
