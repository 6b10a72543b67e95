# Mends the include folders that the ROS wheels from PyPI bring in; on an ordinary ROS install nothing changes.
# Include this below rosidl_generate_interfaces, which makes the targets, or below find_package of a message package.

# 1. The wheels export folders of the machine they were built on, and CMake refuses folders that do not exist.
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

# 2. With .venv/ inside the source tree, numpy's headers lie there too, and CMake refuses to export such a folder.
# Nobody needs it but our own Python binding.
get_directory_property(own_targets BUILDSYSTEM_TARGETS)
foreach(target IN LISTS own_targets)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT folders)
    continue()
  endif()
  set(exported "")
  foreach(folder IN LISTS folders)
    string(FIND "${folder}" "${CMAKE_CURRENT_SOURCE_DIR}/" at)       # no regex: the path may hold + or (
    if(NOT at EQUAL 0 OR NOT folder MATCHES "/site-packages/")
      list(APPEND exported "${folder}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${exported}")
endforeach()
