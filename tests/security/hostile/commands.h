#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What an attacker does, as commands of one static program that tests put into an image or run
/// beside a container. Each prints what it found to standard output; the tests judge. Plain system
/// calls: nothing of ours is under test here.
namespace fluyt::hostile {

using Arguments = std::span<char* const>;

int audit(Arguments args);
int descriptors(Arguments args);
int overwrite(Arguments args);
int peek(Arguments args);
int race(Arguments args);
int socketcall(Arguments args);
int watch(Arguments args);

/// The numbers among the names of /proc.
std::vector<std::string> processes();
/// What a link shows; empty where it cannot be read.
std::string link_text(const std::string& path);
/// At most `limit` bytes; empty where it cannot be read.
std::string file_text(const std::string& path, size_t limit = 1U << 20U);

}  // namespace fluyt::hostile
