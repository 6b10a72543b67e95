// Writes one HandPose21Array to standard output, serialized by the middleware; Python reads it back.
#include <cstdio>
#include <limits>

#include "hand_pose_ros/msg/hand_pose21_array.hpp"
#include "rcutils/allocator.h"
#include "rmw/rmw.h"
#include "rmw/serialized_message.h"
#include "rosidl_typesupport_cpp/message_type_support.hpp"

int main()
{
  using hand_pose_ros::msg::HandPose21;
  using hand_pose_ros::msg::HandPose21Array;

  HandPose21 hand;
  hand.header.stamp.sec = 1700000000;
  hand.header.stamp.nanosec = 123456789;
  hand.header.frame_id = "camera_color_optical_frame";
  hand.track_id = 7;
  hand.side = HandPose21::SIDE_LEFT;
  hand.side_probability = 0.75f;
  static_assert(HandPose21::NUM_JOINTS == 21, "21 joints");
  for (std::size_t joint = 0; joint < HandPose21::NUM_JOINTS; ++joint) {
    hand.joints_image[2 * joint] = static_cast<float>(joint);
    hand.joints_image[2 * joint + 1] = static_cast<float>(100 + joint);
    hand.joints_camera[joint].z = 0.5 + 0.125 * static_cast<double>(joint);
    hand.joints_wrist[joint].x = std::numeric_limits<double>::quiet_NaN();
    hand.state[joint] = HandPose21::STATE_VISIBLE;
  }
  hand.state[HandPose21::LITTLE_TIP] = HandPose21::STATE_EXTRAPOLATED;
  hand.scale_source = HandPose21::SCALE_DEPTH;

  HandPose21Array hands;
  hands.header = hand.header;
  hands.hands.push_back(hand);
  hands.model = "from C++";
  hands.latency_publish = -1;

  auto bytes = rmw_get_zero_initialized_serialized_message();
  auto allocator = rcutils_get_default_allocator();
  const auto * support = rosidl_typesupport_cpp::get_message_type_support_handle<HandPose21Array>();
  if (rmw_serialized_message_init(&bytes, 0, &allocator) != RMW_RET_OK ||
    rmw_serialize(&hands, support, &bytes) != RMW_RET_OK)
  {
    std::fputs("cannot serialize\n", stderr);
    return 1;
  }
  std::fwrite(bytes.buffer, 1, bytes.buffer_length, stdout);
  return rmw_serialized_message_fini(&bytes) == RMW_RET_OK ? 0 : 1;
}
