"""The reference OPTIMADE server as OQMD's: `python optimade_process.py STRUCTURES.jsonl PORT`.

Identifiers are text in the specification and numbers at OQMD, whose filters say `id>=1`: the only thing that
this file adds is quotation marks around those numbers.
"""

import re
import sys
from urllib.parse import quote, unquote_plus

import uvicorn
from optimade.server.config import ServerConfig
from optimade.server.create_app import create_app


def with_quotes(app):
    async def quoted(scope, receive, send):
        if scope["type"] == "http":
            query = unquote_plus(scope["query_string"].decode())
            query = re.sub(r"(\bid(?:>=|<))(\d+)", lambda m: f'{m[1]}"{int(m[2]):09d}"', query)
            scope = {**scope, "query_string": quote(query, safe="=&,").encode()}
        await app(scope, receive, send)

    return quoted


if __name__ == "__main__":
    path, port = sys.argv[1:]
    config = ServerConfig(
        insert_from_jsonl=path,
        insert_test_data=False,
        create_default_index=False,
        database_backend="mongomock",
        provider={"prefix": "oqmd", "name": "OQMD stand-in", "description": "synthetic rows for tests"},
        provider_fields={"structures": [{"name": "entry_id", "type": "integer", "description": "entry"}]},
        page_limit=500,
        page_limit_max=1000,
        base_url=f"http://127.0.0.1:{port}",
    )
    uvicorn.run(with_quotes(create_app(config)), host="127.0.0.1", port=int(port), log_level="warning")
