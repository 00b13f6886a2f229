"""`sbot config`: each setting in force and where it came from. Needs no running node."""

from node import arguments, config
from node.commands.catalogue import Invocation
from node.output import Output


def reading(
    invocation: Invocation, *, valued: tuple[str, ...] = (), switches: tuple[str, ...] = ()
) -> arguments.Strict:
    """The words of a strict command that takes every setting as a flag, and the options named here besides."""
    flags = [option.flag.removeprefix("--") for option in config.OPTIONS if option.metavar]
    toggles = [option.flag.removeprefix("--") for option in config.OPTIONS if not option.metavar]
    return arguments.strict(
        invocation.argv,
        valued=(*flags, *valued),
        switches=(*toggles, "json", *switches),
        command=invocation.spelled,
    )


def loaded(invocation: Invocation, found: arguments.Strict) -> config.Config:
    """The settings, with the flags in `found` before everything else."""
    flags = {option.name: found.values.get(option.flag.removeprefix("--")) for option in config.OPTIONS}
    return config.load(flags, invocation.environ)


def show(invocation: Invocation) -> int:
    """Print the settings: one JSON object with value and source each, or a table."""
    found = reading(invocation)
    settings = loaded(invocation, found).settings
    output = Output.standard(as_json=found.on("json"))
    if output.pretty:
        rows = [(item.name, item.value, item.source.value, item.detail) for item in settings]
        output.table(("setting", "value", "source", "from"), rows)
    else:
        output.json_value(
            {item.name: {"value": item.value, "source": item.source.value, "from": item.detail} for item in settings}
        )
    return 0
