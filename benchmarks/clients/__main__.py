"""Run every client, or those that are named, and print a line for each.

    python -m benchmarks.clients [NAME ...]

A client whose library is not installed is skipped. The exit status is 1 if one fails.
"""

import importlib
import pkgutil
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version

import benchmarks.clients


def report(name: str) -> bool:
    """Run a client and print what it found; whether it did not fail."""
    client = importlib.import_module(f"benchmarks.clients.{name}")
    try:
        versions = ", ".join(f"{package} {version(package)}" for package in client.PACKAGES)
    except PackageNotFoundError as error:
        print(f"{name}: skipped, as {error.name} is not installed", flush=True)
        return True
    try:
        print(f"{name} ({versions}): {client.main()}", flush=True)
    except Exception:
        traceback.print_exc()
        print(f"{name} ({versions}): FAILED", flush=True)
        return False
    return True


if __name__ == "__main__":
    clients = [module.name for module in pkgutil.iter_modules(benchmarks.clients.__path__)]
    names = sys.argv[1:] or [name for name in clients if not name.startswith("_")]
    sys.exit(not all([report(name) for name in names]))
