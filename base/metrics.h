// Metrics: counters, gauges and histograms, written out in Prometheus' text format. Names are listed in docs/metrics.md,
// and a test keeps that list true.
//
//   Counter* hits = metrics->AddCounter("shadowline_reads_total", "Reads by source.", {{"source", "cache"}});
//   hits->Add();
//
// Ownership: Metrics owns what it hands out; it lives as long as Metrics does.
// Threads:   thread-safe; Add, Set and Observe take no lock but the histogram's.
// Limits:    labels are fixed when the metric is made. Never make one from a tenant's name: tenants are many, and metrics are
//            read by people who may not know them.
#ifndef SHADOWLINE_BASE_METRICS_H_
#define SHADOWLINE_BASE_METRICS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace shadowline::base {

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Add(double amount = 1) = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The same name and labels give the same object.
  Counter* AddCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge* AddGauge(const std::string& name, const std::string& help, const Labels& labels = {});
  // `bounds` are the upper bounds of the buckets, ascending.
  Histogram* AddHistogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                          const Labels& labels = {});

  // Everything in the text exposition format, version 0.0.4.
  std::string Expose() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_METRICS_H_
