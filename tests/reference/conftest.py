"""Make the tiny configs importable, and keep transformers off the network and on one thread."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # the models are tiny: a second thread only waits
sys.path.insert(0, str(Path(__file__).parent))
