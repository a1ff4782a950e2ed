#include "cache/redis/poll_set.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

namespace shadowline::cache {

PollSet::PollSet() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

PollSet::~PollSet() { close(epoll_); }

void PollSet::Add(RedisConnection* connection) { entries_.push_back(Entry{connection}); }

void PollSet::Remove(RedisConnection* connection) {
  std::erase_if(entries_, [connection](const Entry& entry) { return entry.connection == connection; });
}

void PollSet::OnReady(short) {  // NOLINT: poll(2)'s own type
  epoll_event ready[32];
  const int count = epoll_wait(epoll_, ready, std::size(ready), 0);
  for (int i = 0; i < count; ++i) {
    auto* const connection = static_cast<RedisConnection*>(ready[i].data.ptr);
    // One of those before it may have had it removed.
    const bool here = std::any_of(entries_.begin(), entries_.end(),
                                  [connection](const Entry& entry) { return entry.connection == connection; });
    if (here) connection->OnReady(static_cast<short>(ready[i].events));  // NOLINT
  }
}

void PollSet::Flush() {
  for (Entry& entry : entries_) {
    entry.connection->Flush();
    const int descriptor = entry.connection->Descriptor();
    const short events = entry.connection->Events();  // NOLINT: poll(2)'s own type
    const bool known = entry.descriptor == descriptor && entry.term == entry.connection->term();
    if (known && entry.events == events) continue;
    entry.term = entry.connection->term();
    entry.descriptor = descriptor;
    entry.events = events;
    if (descriptor < 0) continue;
    epoll_event wanted{};
    wanted.events = static_cast<uint32_t>(events);
    wanted.data.ptr = entry.connection;
    epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, &wanted);
  }
}

bool PollSet::Busy() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.connection->Busy(); });
}

}  // namespace shadowline::cache
