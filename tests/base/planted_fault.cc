// Does what a sanitizer is for, so that its run can be seen to fail: `race`, `use_after_free` or `overflow`.
#include <climits>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

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
  } else if (fault == "use_after_free") {
    auto owner = std::make_unique<int>(1);
    const volatile int* const borrowed = owner.get();
    owner.reset();
    value = *borrowed;
  } else if (fault == "overflow") {
    value = INT_MAX;
    value = value + argc;
  } else {
    std::fprintf(stderr, "planted_fault: name one of race, use_after_free, overflow\n");
    return 64;
  }
  std::printf("nobody noticed: %d\n", value);
  return 0;
}
