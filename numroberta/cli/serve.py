"""`numroberta serve`: models behind HTTP."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from numroberta.cli.arguments import MODEL_NAMES, Parsers, add_arithmetic, load_model

if TYPE_CHECKING:
    from numroberta.model import TextEncoder

KEY_VARIABLE = "NUMROBERTA_API_KEY"
LOOPBACK = ("127.", "::1", "localhost")


def add_serve(parsers: Parsers) -> None:
    parser = parsers.add_parser("serve", help="models behind HTTP, for clients of OpenAI's API and of TEI's")
    parser.add_argument(
        "--model",
        action="append",
        metavar="[NAME=]MODEL",
        help=f"{MODEL_NAMES} (default: tiny); again for another one; NAME: what requests call it, else a folder's is "
        "its last part; the first answers where they call none",
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this computer)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument(
        "--api-key", action="append", metavar="KEY", help=f"a key that requests need (default: ${KEY_VARIABLE}, if set)"
    )
    parser.add_argument("--cors", action="append", metavar="ORIGIN", help="let pages of this origin ask; '*' for all")
    parser.add_argument(
        "--grace", type=float, default=30, metavar="S", help="seconds to finish what was accepted (default: 30)"
    )
    parser.add_argument(
        "--queue", type=int, default=100_000, metavar="N", help="tokens that may wait (default: 100,000)"
    )
    parser.add_argument("--auto-truncate", action="store_true", help="cut long texts where a request does not say")
    parser.add_argument(
        "--log",
        choices=["requests", "texts"],
        help="a line of JSON for each request on standard output; texts: with the request itself",
    )
    add_arithmetic(parser)
    parser.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    if options.queue < 1 or options.grace < 0 or not 0 <= options.port < 1 << 16:
        given = f"--queue {options.queue} --grace {options.grace:g} --port {options.port}"
        raise ValueError(f"{given}: expected at least 1, at least 0, and 0 to 65535")
    keys = options.api_key or [key for key in [os.environ.get(KEY_VARIABLE)] if key]
    models = load_models(options)
    try:
        from numroberta import serving
        from numroberta.serving import run
    except ImportError as error:
        raise ValueError(f"serve needs {error.name}: pip install 'numroberta[serve]'") from None
    application = serving.app(
        models,
        api_keys=keys,
        cors=options.cors or (),
        log=serving.json_lines(options.log == "texts") if options.log else None,
        limits=serving.Limits(queue=options.queue, auto_truncate=options.auto_truncate),
    )
    warnings.simplefilter("ignore")  # of texts that were cut: whoever sent them has asked for it
    if not keys and not options.host.startswith(LOOPBACK):
        print(
            f"numroberta: listening beyond this computer ({options.host}) without a key: anybody there can ask",
            file=sys.stderr,
        )

    def ready(address: str) -> None:
        print(f"{', '.join(models)} at {address}", flush=True)

    return 0 if run(application, options.host, options.port, grace=options.grace, ready=ready) else 143


def load_models(options: argparse.Namespace) -> dict[str, TextEncoder]:
    """The models by the names that requests have for them: NAME of NAME=MODEL, or else a folder's last part."""
    models: dict[str, TextEncoder] = {}
    for given in options.model or ["tiny"]:
        if Path(given).is_dir():
            name, model = Path(given).resolve().name, given
        elif "=" in given:
            name, _, model = given.partition("=")
        else:
            name = model = given
        if name in models:
            raise ValueError(f"--model {given}: another model is called {name}, too: give it a name, NAME={model}")
        models[name] = load_model(argparse.Namespace(**vars(options) | {"model": model}))
    return models
