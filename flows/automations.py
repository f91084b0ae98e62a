"""Put the automations of ``automations.yaml`` on the server: ``python -m flows.automations``.

Automations that are there already are changed, so the command may be run again at any time.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml  # type: ignore[import-untyped]  # Prefect brings it, without its types
from httpx import TransportError
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError

from nnpipe.errors import NnpipeError

FILE = Path("automations.yaml")

Notify = Annotated[
    str | None,
    typer.Option(
        help="Notification block, as TYPE/NAME. Without it, what notifies is left as it is."
    ),
]


def _with_ids(action: dict[str, Any], *, block: str, client: SyncPrefectClient) -> dict[str, Any]:
    """Replace the names of a block and of a deployment by their ids."""
    ids: dict[str, Any] = {}
    name = block
    try:
        if "block_document_id" in action:
            kind, _, document = block.partition("/")
            found = client.read_block_document_by_name(document, kind)
            if not (found.block_schema and "notify" in found.block_schema.capabilities):
                raise NnpipeError(f"{name} cannot notify; see 'prefect block types ls'")
            ids["block_document_id"] = found.id
        if name := action.get("deployment_id", ""):
            ids["deployment_id"] = client.read_deployment_by_name(name).id
    except ObjectNotFound:
        advice = "prefect block ls" if name == block else "prefect --no-prompt deploy --all"
        raise NnpipeError(f"{name} is not on the server; see '{advice}'") from None
    return action | ids


def put(block: str | None) -> list[str]:
    """Create or change the automations, and return the names of those that need a block.

    Raises:
        NnpipeError: the file is malformed, or a block or a deployment is not on the server.
    """
    automations, left_out, entry = [], [], {"name": "automations"}
    with get_client(sync_client=True) as client:
        try:
            for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))["automations"]:
                actions = entry["actions"]
                if not block and any("block_document_id" in action for action in actions):
                    left_out.append(str(entry["name"]))
                    continue
                actions = [
                    _with_ids(action, block=block or "", client=client) for action in actions
                ]
                automations.append(Automation.model_validate(entry | {"actions": actions}))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise NnpipeError(
                f"{FILE}: {entry.get('name')}: {where}: {error.errors()[0]['msg']}"
            ) from error
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise NnpipeError(f"{FILE}: {' '.join(str(error).split())}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NnpipeError(
                f"{FILE}: expected a list 'automations' of entries with name, trigger and actions"
            ) from error
        for automation in automations:
            there = client.read_automations_by_name(automation.name)
            for double in there[1:]:  # this command ran twice at once
                client.delete_automation(double.id)
            if there:
                automation.id = there[0].id
                automation.update()
            else:
                automation.create()
            print(f"{automation.name}: {'updated' if there else 'created'}")
    return left_out


def apply(notify: Notify = None) -> None:
    """Put the automations of automations.yaml on the server, or change those that are there."""
    if not PREFECT_API_URL.value():
        sys.exit("no server is named; set PREFECT_API_URL")
    try:
        left_out = put(notify)
    except NnpipeError as error:
        sys.exit(str(error))
    except TransportError:
        sys.exit(f"no Prefect server answers at {PREFECT_API_URL.value()}")
    except PrefectHTTPStatusError as error:
        sys.exit(f"the server refuses the automations: {error.response.text}")
    if left_out:
        print(f"Without --notify, these are left as they are: {', '.join(left_out)}.")


if __name__ == "__main__":
    typer.run(apply)
