// What the sanitizers are told in a build that has them: a monitor starts with an empty
// environment.
#if defined(FLUYT_REPORTS)
extern "C" {
const char* __asan_default_options();
const char* __asan_default_options() { return "log_exe_name=1:log_path=" FLUYT_REPORTS; }
const char* __ubsan_default_options();
const char* __ubsan_default_options() {
  return "print_stacktrace=1:log_exe_name=1:log_path=" FLUYT_REPORTS;
}
}
#endif
