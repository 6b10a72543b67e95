"""``python3 -m hand_pose_ros`` is ``hand-pose``."""
import sys

from hand_pose_ros.cli import main

sys.exit(main())
