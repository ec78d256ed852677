"""Who is offered what: weighted DRF over roles and frameworks, driven by events and by demand."""

from kernel.master.allocator.allocate import Pass as Pass
from kernel.master.allocator.allocator import Allocator as Allocator
from kernel.master.allocator.demand import Demand as Demand
from kernel.master.allocator.enforce import LimitPassed as LimitPassed
from kernel.master.allocator.explain import Reason as Reason
from kernel.master.allocator.explain import RoleLoad as RoleLoad
from kernel.master.allocator.explain import RoleView as RoleView
from kernel.master.allocator.explain import Why as Why
from kernel.master.allocator.preempt import Relief as Relief
from kernel.master.allocator.preempt import Run as Run
from kernel.master.allocator.quota import Quota as Quota
from kernel.master.allocator.snapshot import Held as Held
from kernel.master.allocator.state import Allocation as Allocation
from kernel.master.allocator.state import AllocatorConfig as AllocatorConfig
from kernel.master.allocator.state import FrameworkOptions as FrameworkOptions
