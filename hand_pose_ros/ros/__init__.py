"""The ROS rim: the only code of the package that imports rclpy or message packages."""
