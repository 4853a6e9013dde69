"""facechain workspace backup | restore | check | rebuild | key"""

from __future__ import annotations

import typer

from facechain import disk
from facechain.cli.archives import Archive, Encrypt, Out, TrustSigner, new_passphrase, opened
from facechain.cli.options import Json

app = typer.Typer(help="The folder with all people and portraits: back it up, check it.", no_args_is_help=True)


@app.command()
def backup(out: Out, encrypt: Encrypt = False, as_json: Json = False) -> None:
    """Write everybody, their portraits and trainings, and the server's users to one signed archive."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    passphrase = new_passphrase(encrypt)
    with progress.downloads(as_json) as tick:
        size = disk.save(out, studio().backup(passphrase, tick))
    told = {"archive": str(out), "bytes": size, "signer": studio().key_fingerprint()}
    typer.echo(show.as_json(told) if as_json else f"{out}: {show.size(size)}, signed with {told['signer']}.")


@app.command()
def restore(archive: Archive, trust_signer: TrustSigner = "", as_json: Json = False) -> None:
    """Fill an empty workspace from a backup."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    with progress.downloads(as_json) as tick:
        files = opened(
            archive,
            lambda file, passphrase: studio().restore(
                file, passphrase=passphrase, trust_signer=trust_signer, tick=tick
            ),
        )
    typer.echo(show.as_json({"files": files}) if as_json else f"{files} files restored. Next: facechain people list")


@app.command()
def check(as_json: Json = False) -> None:
    """Read every file; name what is damaged and what to do about it. Exit code 2 when something is."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    with progress.progress(as_json) as tick:
        findings = studio().check_workspace(tick)
    if as_json:
        typer.echo(show.as_json(findings))
    else:
        for finding in findings:
            typer.echo(f"{finding.path}: {finding.what} {finding.next_step}")
        typer.echo(f"{len(findings)} damaged." if findings else "Everything can be read, and the index agrees with it.")
    if findings:
        raise typer.Exit(2)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Make the index of people and portraits anew from their folders. Jobs are kept."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    studio().rebuild_index()
    portraits = len(studio().portraits())
    typer.echo(show.as_json({"portraits": portraits}) if as_json else f"The index is new: {portraits} portraits.")


@app.command()
def key(as_json: Json = False) -> None:
    """Print the fingerprint of the key that signs this workspace's archives, for others to compare."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    fingerprint = studio().key_fingerprint()
    typer.echo(show.as_json({"fingerprint": fingerprint}) if as_json else fingerprint)
