"""The clock of this command, read when this is imported: before whatever takes long to import.

How busy the machine is, is taken over a tenth of a second at least; begun here, none is waited.
"""

from snugly.machine.host import Host
from snugly.machine.load import Clock

BEGUN = Clock.read(Host())
