"""`python -m cipherkeep_host.appliance`."""

import sys

from cipherkeep_host.appliance.supervisor import main

sys.exit(main())
