#include "image/registry/www_authenticate.h"

#include "base/strings.h"

namespace fluyt::image::registry {

namespace {

// RFC 9110 §5.6.2.
bool is_token_char(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
  return c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token68_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && std::string_view("-._~+/").find(c) != std::string_view::npos);
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<std::vector<Challenge>> run() {
    std::vector<Challenge> out;
    while (true) {
      skip_separators();
      if (at_end()) return out;
      if (out.size() == kMaxChallenges) return broken("too many challenges");
      out.push_back(FLUYT_TRY(challenge()));
    }
  }

 private:
  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }
  void skip_separators() {
    while (peek() == ' ' || peek() == '\t' || peek() == ',') ++at_;
  }
  Error broken(std::string_view what) const {
    return Error(Code::kInvalidArgument,
                 cat("WWW-Authenticate header ", quote(text_), ": ", what, " at byte ", at_));
  }

  std::string_view token() {
    const size_t from = at_;
    while (!at_end() && is_token_char(text_[at_])) ++at_;
    return text_.substr(from, at_ - from);
  }

  Result<std::string> quoted_string() {
    ++at_;  // the opening quote
    std::string out;
    while (!at_end() && text_[at_] != '"') {
      if (text_[at_] == '\\') ++at_;
      if (at_end()) break;
      out += text_[at_++];
    }
    if (at_end()) return broken("a quoted string does not end");
    ++at_;
    return out;
  }

  // `name = value` if that is what comes next; otherwise nothing is consumed. This decides whether
  // a word after a comma is a parameter of this challenge or the scheme of the next.
  Result<bool> parameter(Challenge& out) {
    const size_t from = at_;
    const std::string name = to_lower(token());
    skip_spaces();
    if (name.empty() || peek() != '=') {
      at_ = from;
      return false;
    }
    ++at_;
    skip_spaces();
    std::string value;
    if (peek() == '"') {
      value = FLUYT_TRY(quoted_string());
    } else {
      value = std::string(token());
      if (value.empty()) return broken("a parameter has no value");
    }
    for (const auto& known : out.params) {
      if (known.first == name) return broken(cat("parameter ", quote(name), " is given twice"));
    }
    out.params.emplace_back(name, std::move(value));
    return true;
  }

  // "Negotiate abc==" : the whole rest up to a comma.
  bool token68(Challenge& out) {
    const size_t from = at_;
    while (!at_end() && is_token68_char(text_[at_])) ++at_;
    const size_t body = at_;
    while (peek() == '=') ++at_;
    const size_t end = at_;
    skip_spaces();
    if (body == from || (!at_end() && peek() != ',')) {
      at_ = from;
      return false;
    }
    out.token68 = std::string(text_.substr(from, end - from));
    return true;
  }

  Result<Challenge> challenge() {
    Challenge out;
    out.scheme = to_lower(token());
    if (out.scheme.empty()) return broken("expected the name of a scheme");
    if (at_end()) return out;
    if (peek() != ' ' && peek() != '\t' && peek() != ',') return broken("unexpected character");
    skip_spaces();
    if (at_end() || peek() == ',') return out;
    if (token68(out)) return out;
    if (!FLUYT_TRY(parameter(out))) return broken("expected a parameter");
    while (true) {
      skip_spaces();
      if (at_end()) return out;
      if (peek() != ',') return broken("expected a comma");
      skip_separators();
      if (at_end() || !FLUYT_TRY(parameter(out))) return out;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::string_view Challenge::param(std::string_view name) const {
  for (const auto& [known, value] : params) {
    if (known == name) return value;
  }
  return {};
}

Result<std::vector<Challenge>> parse_www_authenticate(std::string_view header) {
  if (header.size() > kMaxChallengeBytes) {
    return Error(Code::kInvalidArgument, cat("WWW-Authenticate header of ", header.size(),
                                             " bytes: at most ", kMaxChallengeBytes, " are read"));
  }
  return Parser(header).run();
}

}  // namespace fluyt::image::registry
