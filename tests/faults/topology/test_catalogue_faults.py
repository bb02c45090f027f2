"""The catalogue watch while its server dies or hangs."""

import asyncio

from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.node import Address
from tests.integration.topology.watching import becomes, connected
from tests.stacks import PrivateStack


async def test_a_restart_of_the_primary_is_survived(private_stack: PrivateStack) -> None:
    stack = await asyncio.to_thread(private_stack, replicas=0)
    address = Address("127.0.0.1", stack.primary.port, stack.database)
    watch = CatalogueWatch(address, (stack.app_user, stack.app_password))
    await watch.start()
    assert await watch.refresh()
    before = watch.current
    await asyncio.to_thread(stack.primary.kill)
    watch.invalidate()
    assert not await watch.refresh()
    assert watch.current is before
    assert not watch.usable_for_cache
    await asyncio.to_thread(stack.primary.start)
    connection = await connected(stack.primary, stack.database)
    await connection.execute("CREATE TABLE after_restart (id int)")
    await connection.close()
    watch.invalidate()
    await becomes(lambda: watch.usable_for_cache, 10, "a load")
    assert "after_restart" in watch.current.relations
    await watch.stop()
