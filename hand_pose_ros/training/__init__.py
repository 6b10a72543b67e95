"""Learning the networks from virtual hands: shards, augmentation, losses and the loop. Never imported by the robot."""
