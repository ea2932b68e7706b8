"""`edgeship serve`."""

from __future__ import annotations

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Lines, Output


@click.command()
@click.option("--open", "open_", is_flag=True, default=False, help="Open it in the browser.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8480, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Address to listen on; beyond this machine a token is asked for.")  # fmt: skip
@click.option("--token", default=None, envvar="EDGESHIP_SERVE_TOKEN", show_envvar=True, metavar="TEXT",
              help="Ask for this token; one is made where it is needed.")  # fmt: skip
@with_output
def serve(out: Output, open_: bool, port: int, host: str, token: str | None) -> None:
    """Serve the dashboard of the fleet.

    It shows the store and changes nothing; telemetry comes in with edgeship telemetry pull --watch 30. Ctrl-C ends it.
    """
    from edgeship.cli.status import limits
    from edgeship.dashboard import server
    from edgeship.dashboard.fleet_view import Settings
    from edgeship.dashboard.security import is_loopback

    with choose.opened() as (project, store):
        at = server.listen(host, port, token=token)
        running = server.server(store, Settings(project.name, limits(project, store.devices())), at)
        out.emit("serve", {"url": at.url, "port": at.port, "token": at.token}, Lines([at.url]))
        if not is_loopback(host):
            out.say("plain HTTP: whoever can listen on the network reads along; use it in a network that you trust")
        if open_ and not server.open_browser(at.url):
            out.say("no browser could be opened; open the address above")
        running.run(sockets=[at.socket])
