"""PyPI's chronos-python, driven line by line: JSON in, `[METHOD, ARGUMENT...]`; JSON out, what it returned, or {"raised": CLASS}.

Run by the Python it is installed for: there `chronos` is that client. Arguments: HOST:PORT, the API's version or `-`.
"""

import json
import sys

import chronos


def main():
    server, version = sys.argv[1:]
    client = chronos.connect(server, scheduler_api_version=None if version == "-" else version)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            answer = getattr(client, method)(*arguments)
        except chronos.ChronosError as error:
            answer = {"raised": type(error).__name__}
        print(json.dumps(answer), flush=True)


main()
