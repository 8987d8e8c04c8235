"""What must hold of the table after every step."""

from tests.shared.memory.world import World
from tests.simulation.invariants import check_table, read_table


def check(world: World) -> None:
    """Raises AssertionError for anything in the table that does not fit the rest."""
    check_table(read_table(world.table.records(), world.pool.id))
