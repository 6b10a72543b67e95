# The ROS wheels from PyPI export include folders of the machine they were built on, and CMake refuses targets with
# include folders that do not exist. On an ordinary ROS install every folder exists and nothing is dropped.
# Include this below rosidl_generate_interfaces, which finds the packages that make those targets.
get_directory_property(imported_targets IMPORTED_TARGETS)
foreach(target IN LISTS imported_targets)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT folders)
    continue()
  endif()
  set(existing "")
  foreach(folder IN LISTS folders)
    if(NOT IS_ABSOLUTE "${folder}" OR IS_DIRECTORY "${folder}")
      list(APPEND existing "${folder}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
endforeach()
