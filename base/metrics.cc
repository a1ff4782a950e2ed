#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <tuple>
#include <utility>

#include "base/mutex.h"

namespace shadowline::base {
namespace {

class PrometheusCounter final : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter* counter) : counter_(counter) {}
  void Add(double amount) override { counter_->Increment(amount); }

 private:
  prometheus::Counter* const counter_;
};

class PrometheusGauge final : public Gauge {
 public:
  explicit PrometheusGauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) override { gauge_->Set(value); }

 private:
  prometheus::Gauge* const gauge_;
};

class PrometheusHistogram final : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value) override { histogram_->Observe(value); }

 private:
  prometheus::Histogram* const histogram_;
};

}  // namespace

struct Metrics::Impl {
  using Id = std::pair<std::string, Labels>;

  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  Mutex mutex;
  std::map<Id, std::unique_ptr<Counter>> counters ABSL_GUARDED_BY(mutex);
  std::map<Id, std::unique_ptr<Gauge>> gauges ABSL_GUARDED_BY(mutex);
  std::map<Id, std::unique_ptr<Histogram>> histograms ABSL_GUARDED_BY(mutex);
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter* Metrics::AddCounter(const std::string& name, const std::string& help, const Labels& labels) {
  MutexLock lock(&impl_->mutex);
  std::unique_ptr<Counter>& counter = impl_->counters[{name, labels}];
  if (counter == nullptr) {
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
    counter = std::make_unique<PrometheusCounter>(&family.Add(labels));
  }
  return counter.get();
}

Gauge* Metrics::AddGauge(const std::string& name, const std::string& help, const Labels& labels) {
  MutexLock lock(&impl_->mutex);
  std::unique_ptr<Gauge>& gauge = impl_->gauges[{name, labels}];
  if (gauge == nullptr) {
    auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
    gauge = std::make_unique<PrometheusGauge>(&family.Add(labels));
  }
  return gauge.get();
}

Histogram* Metrics::AddHistogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                                 const Labels& labels) {
  MutexLock lock(&impl_->mutex);
  std::unique_ptr<Histogram>& histogram = impl_->histograms[{name, labels}];
  if (histogram == nullptr) {
    auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
    histogram = std::make_unique<PrometheusHistogram>(&family.Add(labels, bounds));
  }
  return histogram.get();
}

std::string Metrics::Expose() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace shadowline::base
