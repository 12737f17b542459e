#include <map>

#include "base/strings.h"
#include "cmd/fluytd/config/field.h"
#include "image/auth/credential_table.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxPasswordBytes = 64UL << 10U;

using CredentialMap = std::map<std::string, image::Credentials>;

Value text_value(std::string text) { return {.data = std::move(text), .place = {}}; }

/// What may stand in a table, by its key.
using Members = std::map<std::string_view, std::function<void(const Reading&)>>;

template <class T>
std::function<void(const Reading&)> into(T& to, Codec<T> codec) {
  return [&to, read = std::move(codec.read)](const Reading& reading) {
    if (auto value = read(reading)) to = std::move(*value);
  };
}

/// False when something was wrong, which has been said.
bool read_members(const Reading& reading, const Members& members) {
  const size_t before = reading.count();
  const Value::Table* table = reading.value().table();
  if (table == nullptr) {
    reading.expected("a table");
    return false;
  }
  std::vector<std::string> names;
  for (const auto& [name, read] : members) names.emplace_back(name);
  for (const auto& [key, value] : *table) {
    const Reading member = reading.member(key, value);
    const auto found = members.find(key);
    if (found == members.end()) {
      // What stands at a misspelt password is one.
      member.wrong_unseen(cat("there is no such key: expected one of ", join(names, ", ")));
    } else {
      found->second(member);
    }
  }
  return reading.count() == before;
}

/// What a check says of an entry: about the member that its sentence begins with, else the whole.
void say(const Reading& reading, const Error& error) {
  const std::string& fact = error.message();
  const Value::Table* table = reading.value().table();
  const auto member = table == nullptr ? Value::Table::const_iterator()
                                       : table->find(fact.substr(0, fact.find(": ")));
  if (table == nullptr || member == table->end()) {
    reading.wrong(fact);
    return;
  }
  std::string_view rest = std::string_view(fact).substr(member->first.size() + 2);
  const std::string shown = to_toml(member->second) + ": ";
  if (rest.starts_with(shown)) rest.remove_prefix(shown.size());
  reading.member(member->first, member->second).wrong(std::string(rest));
}

/// One entry of image.credentials. A password is better kept in a file of its own (password_file)
/// than in a configuration that many may read. Nothing that is said shows one.
void read_credential(const Reading& reading, image::CredentialTable& known, CredentialMap& to) {
  std::string match;
  std::string password_file;
  image::Credentials credentials;
  const Members members = {{"match", into(match, text())},
                           {"username", into(credentials.username, text())},
                           {"password", into(credentials.password, text())},
                           {"password_file", into(password_file, absolute_path())},
                           {"identity_token", into(credentials.identity_token, text())},
                           {"registry_token", into(credentials.registry_token, text())}};
  if (!read_members(reading, members)) return;
  if (!password_file.empty()) {
    if (!credentials.password.empty()) {
      reading.expected("password or password_file, not both");
      return;
    }
    const auto file = sys::read_file(password_file, kMaxPasswordBytes);
    if (!file.ok()) {
      say(reading, Error(file.error()).add_context("password_file"));
      return;
    }
    credentials.password = std::string(trim(*file));
  }
  if (credentials.empty()) {
    reading.expected("a username and password, or a token");
    return;
  }
  if (const auto added = known.add(match, credentials); !added.ok()) {
    say(reading, Error(added.error()).add_context("match"));
    return;
  }
  to.emplace(match, std::move(credentials));
}

Value write_credentials(const CredentialMap& all) {
  Value::List list;
  for (const auto& [match, credentials] : all) {
    Value::Table entry = {{"match", text_value(match)}};
    for (const auto& [key, text] : {std::pair{"username", &credentials.username},
                                    {"password", &credentials.password},
                                    {"identity_token", &credentials.identity_token},
                                    {"registry_token", &credentials.registry_token}}) {
      if (!text->empty()) entry.emplace(key, text_value(*text));
    }
    list.push_back({.data = std::move(entry), .place = {}});
  }
  return {.data = std::move(list), .place = {}};
}

void read_pin(const Reading& reading, const std::string& name, image::policy::DigestPins& to) {
  const Value::List* list = reading.value().list();
  if (list == nullptr || list->empty()) {
    reading.expected("a list of digests");
    return;
  }
  const auto digests = words().read(reading);
  if (!digests) return;
  if (const auto added = image::policy::add_pin(to, name, *digests); !added.ok()) {
    say(reading, added.error());
  }
}

Value write_pins(const image::policy::DigestPins& pins) {
  Value::Table table;
  for (const auto& [name, digests] : pins) {
    Value::List list;
    for (const oci::Digest& digest : digests) list.push_back(text_value(digest.text()));
    table.emplace(name, Value{.data = std::move(list), .place = {}});
  }
  return {.data = std::move(table), .place = {}};
}

void read_handler(const Reading& reading, const std::string& name,
                  std::vector<engine::RuntimeHandler>& to) {
  engine::RuntimeHandler handler;
  handler.name = name;
  const Members members = {
      {"path", into(handler.path, text())},
      {"options", into(handler.options, words())},
      {"root", into(handler.root, text())},
      {"privileged_without_host_devices", into(handler.privileged_without_host_devices, flag())},
      {"annotations", into(handler.annotations, words())},
      {"sandbox_container",
       [&](const Reading& of) { handler.sandbox_container = flag().read(of); }}};
  if (!read_members(reading, members)) return;
  if (const auto checked = engine::check_handler(handler); !checked.ok()) {
    say(reading, checked.error());
    return;
  }
  to.push_back(std::move(handler));
}

Value write_handlers(const std::vector<engine::RuntimeHandler>& handlers) {
  Value::Table table;
  for (const engine::RuntimeHandler& handler : handlers) {
    Value::Table members;
    members.emplace("path", text().write(handler.path));
    members.emplace("options", words().write(handler.options));
    members.emplace("root", text().write(handler.root));
    members.emplace("privileged_without_host_devices",
                    flag().write(handler.privileged_without_host_devices));
    members.emplace("annotations", words().write(handler.annotations));
    if (handler.sandbox_container)
      members.emplace("sandbox_container", flag().write(*handler.sandbox_container));
    table.emplace(handler.name, Value{.data = std::move(members), .place = {}});
  }
  return {.data = std::move(table), .place = {}};
}

/// A table of names, whose values `read` takes in one by one.
template <class T>
std::function<std::optional<T>(const Reading&)> each_member(std::string_view expected,
                                                            void (*read)(const Reading&,
                                                                         const std::string&, T&)) {
  return [expected, read](const Reading& reading) -> std::optional<T> {
    const Value::Table* table = reading.value().table();
    if (table == nullptr) return reading.expected(expected);
    const size_t before = reading.count();
    T out;
    for (const auto& [name, value] : *table) read(reading.member(name, value), name, out);
    if (reading.count() != before) return std::nullopt;
    return out;
  };
}

}  // namespace

Codec<CredentialMap> credentials() {
  return {.read = [](const Reading& reading) -> std::optional<CredentialMap> {
            const Value::List* list = reading.value().list();
            if (list == nullptr) return reading.expected("tables [[image.credentials]]");
            const size_t before = reading.count();
            image::CredentialTable known;  // says what is no key, or there twice
            CredentialMap out;
            for (size_t i = 0; i < list->size(); ++i) read_credential(reading.item(i), known, out);
            if (reading.count() != before) return std::nullopt;
            return out;
          },
          .write = write_credentials};
}

Codec<image::policy::DigestPins> digest_pins() {
  return {.read = each_member<image::policy::DigestPins>(
              "a table of names, each with a list of digests", read_pin),
          .write = write_pins};
}

Codec<std::vector<engine::RuntimeHandler>> runtime_handlers() {
  return {.read = each_member<std::vector<engine::RuntimeHandler>>("tables [runtime.handlers.NAME]",
                                                                   read_handler),
          .write = write_handlers};
}

}  // namespace fluyt::daemon
