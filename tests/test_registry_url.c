/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/registry_url.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/registry.h"

static const struct {
	const char *url;
	enum registry_kind kind;
	const char *hosts[4];
} good[] = {
	{"etcd://127.0.0.1:2379", REGISTRY_ETCD3, {"http://127.0.0.1:2379"}},
	{"etcd://a:1,b,c.example.org:65535",
	 REGISTRY_ETCD3,
	 {"http://a:1", "http://b:2379", "http://c.example.org:65535"}},
	{"etcds://[::1]:4001,[2001:db8::2]",
	 REGISTRY_ETCD3,
	 {"https://[::1]:4001", "https://[2001:db8::2]:2379"}},
	{"etcd2://h", REGISTRY_ETCD2, {"http://h:2379"}},
	{"ETCD2S://h_1-x:7", REGISTRY_ETCD2, {"https://h_1-x:7"}},
	{"etcd://h:1/", REGISTRY_ETCD3, {"http://h:1"}},
	{"consul://h,[::1]:7", REGISTRY_CONSUL, {"http://h:8500", "http://[::1]:7"}},
	{"consuls://h", REGISTRY_CONSUL, {"https://h:8501"}},
};

static void test_registry_url_of_hosts_gives_their_base_urls(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct registry_url url;
		struct error error = {0};

		assert_int_equal(registry_url_parse(good[i].url, &url, &error), 0);
		assert_int_equal(url.kind, good[i].kind);
		assert_null(url.path);
		for (size_t n = 0; good[i].hosts[n]; n++) {
			assert_true(n < url.host_count);
			assert_string_equal(url.hosts[n], good[i].hosts[n]);
			assert_int_equal(url.tls, strncmp(url.hosts[n], "https", 5) == 0);
		}
		assert_null(good[i].hosts[url.host_count]);
		registry_url_done(&url);
	}
}

static void test_registry_url_of_a_file_gives_its_decoded_path(void **state)
{
	struct registry_url url;

	(void)state;
	assert_int_equal(registry_url_parse("file:///etc/a%20b%2F.json", &url, NULL), 0);
	assert_int_equal(url.kind, REGISTRY_FILE);
	assert_int_equal(url.host_count, 0);
	assert_string_equal(url.path, "/etc/a b/.json");
	registry_url_done(&url);
}

static const struct {
	const char *url, *message;
} bad[] = {
	{"", "registry URL: no scheme (as in etcd://127.0.0.1:2379)"},
	{"127.0.0.1:2379", "registry URL: no scheme (as in etcd://127.0.0.1:2379)"},
	{"://x", "registry URL: no scheme (as in etcd://127.0.0.1:2379)"},
	{"http://x",
	 "registry URL: unknown scheme \"http\" (known: etcd, etcds, etcd2, etcd2s, consul, consuls, "
	 "file)"},
	{"e\x1b://x",
	 "registry URL: unknown scheme \"e\\x1b\" (known: etcd, etcds, etcd2, etcd2s, consul, "
	 "consuls, file)"},
	{"consul://", "registry URL: host 1 of the list is empty"},
	{"consul://h/v1", "registry URL: a path is not taken: \"/v1\""},
	{"etcd://", "registry URL: host 1 of the list is empty"},
	{"etcd:///", "registry URL: host 1 of the list is empty"},
	{"etcd://a,,b", "registry URL: host 2 of the list is empty"},
	{"etcd://a,", "registry URL: host 2 of the list is empty"},
	{"etcd://:2379", "registry URL: a host is missing before: \":2379\""},
	{"etcd://a:", "registry URL: the port is not a number from 1 to 65535: \"\""},
	{"etcd://a:0", "registry URL: the port is not a number from 1 to 65535: \"0\""},
	{"etcd://a:65536", "registry URL: the port is not a number from 1 to 65535: \"65536\""},
	{"etcd://a:+1", "registry URL: the port is not a number from 1 to 65535: \"+1\""},
	{"etcd://a b", "registry URL: not a host name: \"a b\""},
	{"etcd://-a", "registry URL: not a host name: \"-a\""},
	{"etcd://a\\b", "registry URL: not a host name: \"a\\\\b\""},
	{"etcd://2001:db8::1", "registry URL: an IPv6 address stands in brackets: "
			       "\"2001:db8::1\""},
	{"etcd://[::1", "registry URL: \"[\" without \"]\": \"[::1\""},
	{"etcd://[1.2.3.4]", "registry URL: not an IPv6 address: \"1.2.3.4\""},
	{"etcd://[::1]2379", "registry URL: after \"]\" comes a port or nothing: \"[::1]2379\""},
	{"etcd://a/v3", "registry URL: a path is not taken: \"/v3\""},
	{"etcd://a//", "registry URL: a path is not taken: \"//\""},
	{"etcd://a?x=1", "registry URL: a query is not taken: \"?x=1\""},
	{"etcd://a#x", "registry URL: a fragment is not taken: \"#x\""},
	{"file://", "registry URL: file:// takes an absolute path, as in file:///etc/x.json: \"\""},
	{"file://a/b",
	 "registry URL: file:// takes an absolute path, as in file:///etc/x.json: \"a/b\""},
	{"file:///a%2", "registry URL: \"%\" is followed by two hex digits, not 00: \"%2\""},
	{"file:///a%00b", "registry URL: \"%\" is followed by two hex digits, not 00: \"%00b\""},
	{"file:///a?b", "registry URL: a query or fragment is not taken (write %3f, %23): \"?b\""},
};

static void test_registry_url_that_is_wrong_names_the_part(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct registry_url url;
		struct error error = {0};

		assert_int_equal(registry_url_parse(bad[i].url, &url, &error), -EINVAL);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, bad[i].message);
	}
}

static void test_registry_url_with_a_password_never_quotes_it(void **state)
{
	static const char *const urls[] = {"etcd://u:hunter2@h", "etcd://a/hunter2@h",
					   "etcds://a:hunter2,@", "etcd2://[hunter2@"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct registry_url url;
		struct error error = {0};

		assert_int_equal(registry_url_parse(urls[i], &url, &error), -EINVAL);
		assert_null(strstr(error.message, "hunter2"));
		assert_non_null(strstr(error.message, "\"@\""));
	}
}

static void test_registry_url_with_too_many_hosts_is_refused(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct registry_url url;
	struct error error;

	(void)state;
	text_puts(&text, "etcd://h");
	for (size_t i = 1; i < REGISTRY_HOSTS_MAX; i++)
		text_puts(&text, ",h");
	assert_int_equal(registry_url_parse(text.data, &url, &error), 0);
	assert_int_equal(url.host_count, REGISTRY_HOSTS_MAX);
	registry_url_done(&url);
	text_puts(&text, ",h");
	assert_int_equal(registry_url_parse(text.data, &url, &error), -EINVAL);
	assert_string_equal(error.message, "registry URL: more than 64 hosts");
}

static const struct {
	struct registry_options options;
	int code;
	const char *message;
} refused[] = {
	{{.url = "etcd://h", .tls_ca = "/x"},
	 -EINVAL,
	 "TLS files are given, but etcd://h is not encrypted (as etcds:// is)"},
	{{.url = "etcds://h", .tls_ca = "/nonexistent/ca"},
	 -ENOENT,
	 "CA file /nonexistent/ca: No such file or directory"},
	{{.url = "etcds://h", .tls_key = "/dev/null"},
	 -EINVAL,
	 "a TLS key is given, but no certificate that it belongs to"},
	{{.url = "etcd://h", .user = "u"}, -EINVAL, "a registry user needs a password file"},
	{{.url = "etcd://h", .password_file = "/dev/null"},
	 -EINVAL,
	 "a registry password file needs a user"},
	{{.url = "etcd://h", .user = "u", .password_file = "/dev/null"},
	 -EINVAL,
	 "password file /dev/null: its first line is empty"},
	{{.url = "etcd://h", .user = "u", .password_file = "/nonexistent/p"},
	 -ENOENT,
	 "password file /nonexistent/p: No such file or directory"},
	{{.url = "etcd2://h", .user = "a:b", .password_file = "/dev/null"},
	 -EINVAL,
	 "a registry user of etcd v2 holds no \":\""},
	{{.url = "consul://h", .user = "u", .password_file = "/dev/null"},
	 -EINVAL,
	 "Consul has no users: its token is the password, in a file"},
	{{.url = "consul://h", .password_file = "/nonexistent/p"},
	 -ENOENT,
	 "password file /nonexistent/p: No such file or directory"},
	{{.url = "consul://h", .password_file = "/proc/version"},
	 -EINVAL,
	 "the registry password is no token of Consul's: it has other characters than printable "
	 "ASCII"},
	{{.url = "consul://h", .tls_ca = "/x"},
	 -EINVAL,
	 "TLS files are given, but consul://h is not encrypted (as consuls:// is)"},
	{{.url = "etcd://h", .consul_datacenter = "dc1"},
	 -EINVAL,
	 "options of Consul are given, but etcd://h is none (as consul:// is)"},
	{{.url = "etcd2://h", .consul_namespace = "team"},
	 -EINVAL,
	 "options of Consul are given, but etcd2://h is none (as consul:// is)"},
	{{.url = "file:///x", .consul_stale = true},
	 -EINVAL,
	 "options of Consul are given, but file:///x is none (as consul:// is)"},
	{{.url = "etcd://h", .consul_connections = 8},
	 -EINVAL,
	 "options of Consul are given, but etcd://h is none (as consul:// is)"},
};

static void test_registry_open_with_wrong_options_names_them(void **state)
{
	CLEANUP(loop_freep) struct loop *loop = NULL;

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct registry *registry = NULL;
		struct error error = {0};

		assert_int_equal(registry_open(loop, &refused[i].options, &registry, &error),
				 refused[i].code);
		assert_null(registry);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, refused[i].message);
	}
}

static void test_registry_has_keys_but_for_consul(void **state)
{
	(void)state;
	assert_true(registry_has_keys("etcd://h"));
	assert_true(registry_has_keys("file:///x"));
	assert_false(registry_has_keys("consul://h"));
	assert_false(registry_has_keys("CONSULS://h,i"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_url_of_hosts_gives_their_base_urls),
		cmocka_unit_test(test_registry_url_of_a_file_gives_its_decoded_path),
		cmocka_unit_test(test_registry_url_that_is_wrong_names_the_part),
		cmocka_unit_test(test_registry_url_with_a_password_never_quotes_it),
		cmocka_unit_test(test_registry_url_with_too_many_hosts_is_refused),
		cmocka_unit_test(test_registry_open_with_wrong_options_names_them),
		cmocka_unit_test(test_registry_has_keys_but_for_consul),
	};

	return cmocka_run_group_tests_name("registry_url", tests, NULL, NULL);
}
