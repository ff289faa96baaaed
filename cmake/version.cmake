# Writes OUTPUT, a header with the version and the commit of SOURCE_DIR, if it has changed. Run at every build.
cmake_policy(VERSION 3.25)
execute_process(COMMAND git -C ${SOURCE_DIR} rev-parse HEAD OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
execute_process(COMMAND git -C ${SOURCE_DIR} status --porcelain --untracked-files=no OUTPUT_VARIABLE changes ERROR_QUIET)
if(changes)
  set(modified true)
else()
  set(modified false)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT "#pragma once
#define EQUISWEEP_VERSION \"@VERSION@\"
#define EQUISWEEP_COMMIT \"@commit@\"
#define EQUISWEEP_MODIFIED @modified@
")
