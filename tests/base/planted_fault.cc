// Does what a sanitizer is for, so that its run can be seen to fail: `race`, `overrun` or `overflow`.
#include <climits>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"

int main(int argc, char** argv) {
  const std::string fault = argc > 1 ? argv[1] : "";
  volatile int value = 0;
  if (fault == "race") {
    const auto add = [&value] {
      for (int i = 0; i < 100'000; ++i) value = value + 1;
    };
    std::thread one = shadowline::base::StartThread("one", add);
    std::thread other = shadowline::base::StartThread("other", add);
    one.join();
    other.join();
  } else if (fault == "overrun") {
    const std::vector<int> values(static_cast<size_t>(argc));
    value = *(values.data() + argc);
  } else if (fault == "overflow") {
    value = INT_MAX;
    value = value + argc;
  } else {
    std::fprintf(stderr, "planted_fault: name one of race, overrun, overflow\n");
    return 64;
  }
  std::printf("nobody noticed: %d\n", value);
  return 0;
}
