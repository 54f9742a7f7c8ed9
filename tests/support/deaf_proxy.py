"""An S3 server that ignores some headers of requests, as some servers do."""

from tests.servers.fault_proxy import FaultProxy


class DeafProxy(FaultProxy):
    """Passes everything on to another server but the headers it is deaf to.

    Signatures cover those headers: the server behind it must not verify any (moto).
    """

    def __init__(self, upstream, *headers, methods=("GET", "PUT", "POST", "HEAD")):
        super().__init__(upstream)

        def parse_request(handler):
            is_good = super(type(handler), handler).parse_request()
            if is_good and handler.command in methods:
                for name in headers:
                    del handler.headers[name]
            return is_good

        listening = self.server.RequestHandlerClass
        self.server.RequestHandlerClass = type(
            "Deaf", (listening,), {"parse_request": parse_request}
        )
