from __future__ import annotations

import torch

# The transformers here are tiny, and test processes with several numeric threads each wait on one another.
torch.set_num_threads(1)
