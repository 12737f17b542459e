#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/fluytd/config/value.h"

namespace fluyt::daemon {

/// One thing that is wrong with the configuration. All of them are collected, not the first alone.
struct Problem {
  Place place;
  std::string key;    // empty: the file as a whole, or a flag, which its place names
  std::string value;  // as TOML; empty: not to be shown
  std::string fact;   // "expected an absolute path"
  /// PLACE: KEY: VALUE: FACT, without what is empty.
  std::string text() const;
};
using Problems = std::vector<Problem>;

/// All of them as one sentence, at most a few with their text.
std::string summary(const Problems& problems);

/// A value while it is read: it knows its name, and where what is wrong with it is said.
class Reading {
 public:
  Reading(const Value& value, std::string name, Problems& problems)
      : value_(value), name_(std::move(name)), problems_(problems) {}

  const Value& value() const { return value_; }
  const std::string& name() const { return name_; }
  Reading member(const std::string& key, const Value& value) const {
    return {value, name_ + "." + key_text(key), problems_};
  }
  Reading item(size_t number) const;  // of a list that has so many
  /// Says that the value is not what was expected; what the reader returns then.
  std::nullopt_t expected(std::string_view what) const {
    return wrong("expected " + std::string(what));
  }
  std::nullopt_t wrong(std::string fact) const;
  /// The same without showing the value.
  std::nullopt_t wrong_unseen(std::string fact) const;
  /// Whether anything was wrong so far, in any value.
  size_t count() const { return problems_.size(); }

 private:
  const Value& value_;
  std::string name_;
  Problems& problems_;
};

}  // namespace fluyt::daemon
