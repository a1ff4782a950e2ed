#include "cache/certify/postgres/feed_sender.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "cache/capture/postgres/connection.h"

namespace shadowline::cache {

// A channel's name is short, a slot's need not be.
std::string FeedChannel(const std::string& slot) {
  return absl::StrCat("certification_feed_", absl::Hex(base::Hash64(slot), absl::kZeroPad16));
}

FeedSender::FeedSender(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(deps),
      failures_(deps_.metrics->AddCounter("shadowline_certification_failures_total",
                                          "Times that the feed of what was captured lost a connection.",
                                          {{"side", "sender"}})),
      writer_(options_.name, [this] { signal_.Set(); }),
      worker_(
          {"feed-sender"}, [this](bool* worked) { return Serve(worked); },
          [this](const absl::Status& status) {
            failures_->Add();
            base::Log(base::Level::kWarning, "certification_feed_failed",
                      {{"side", "sender"}, {"error", status.ToString()}});
          }) {}

FeedSender::~FeedSender() { Stop(); }

void FeedSender::Start() { worker_.Start(); }

void FeedSender::Stop() { worker_.Stop(); }

absl::Status FeedSender::Serve(bool* worked) {
  signal_.Clear();
  if (!writer_.active()) {
    WaitReadable({worker_.stop(), signal_.descriptor()}, absl::Hours(1));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                   Connection::Open({.connection_string = options_.connection_string,
                                     .application_name = "shadowline feed sender",
                                     .stop = worker_.stop()},
                                    deps_.clock));
  writer_.BeginRun();
  *worked = true;
  const std::string channel = FeedChannel(options_.slot);
  while (writer_.active()) {
    const std::vector<std::string> payloads = writer_.Take();
    if (!payloads.empty()) {
      // In their order: unnest keeps it, and a session's notifications are delivered as they were made.
      RETURN_IF_ERROR(connection
                          ->Query("SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p",
                                  {channel, absl::StrCat("{", absl::StrJoin(payloads, ","), "}")})
                          .status());
    }
    WaitReadable({worker_.stop()}, options_.pause);
    signal_.Clear();
    if (!writer_.waiting()) WaitReadable({worker_.stop(), signal_.descriptor()}, options_.beat);
    if (worker_.stopping()) return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace shadowline::cache
