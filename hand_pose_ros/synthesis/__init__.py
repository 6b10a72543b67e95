"""Virtual hands: rig, poses, shapes, scenes, renderer and labels. Nothing on the robot imports this package."""
