/* Reads conformance vectors and puts them to the appliance below: cc -o vectors vectors.c
 *
 *     ./vectors geneve.json gwlb.json …
 *
 * Exit status 1 if a MUST is not met. The appliance keeps no state and forwards all that it may.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The appliance: 1 if the datagram goes back as it came, 0 if it is dropped. */

static unsigned word(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }

static int inner_is_sound(unsigned ethertype, const uint8_t *at, size_t size)
{
    if (size == 0)
        return 0;
    if (ethertype == 0x0800) {
        size_t header = (size_t)(at[0] & 15) * 4;
        if (at[0] >> 4 != 4 || size < 20 || header < 20 || header > size)
            return 0;
        size_t total = word(at + 2);
        return total >= header && total <= size && at[16] < 224;
    }
    if (ethertype == 0x86dd)
        return at[0] >> 4 == 6 && size >= 40 && 40 + (size_t)word(at + 4) <= size && at[24] != 255;
    return 0;
}

static int forwards(const char *node, const uint8_t *at, size_t size)
{
    static const size_t lengths[] = {0, 8, 8, 4}; /* endpoint, attachment, cookie: in bytes */
    size_t seen[4] = {0};
    if (strncmp(node, "10.9.0.", 7) != 0 || size < 8) /* not the load balancer */
        return 0;
    size_t header = 8 + (size_t)(at[0] & 63) * 4;
    if (at[0] >> 6 != 0 || at[1] & 0x80 || header > size) /* version, O bit, Opt Len */
        return 0;
    for (size_t option = 8; option < header;) {
        size_t length = (size_t)(at[option + 3] & 31) * 4;
        unsigned type = at[option + 2];
        if (option + 4 + length > header || type & 0x80) /* beyond the options; critical */
            return 0;
        if (word(at + option) == 0x0108 && type >= 1 && type <= 3) {
            if (length != lengths[type] || seen[type]++)
                return 0;
        }
        option += 4 + length;
    }
    if (!seen[1] || !seen[2] || !seen[3] || size - header > 8500)
        return 0;
    return inner_is_sound(word(at + 2), at + header, size - header);
}

/* The reader. */

static int field(const char *line, const char *name, char *value, size_t room)
{
    char key[32];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    if (at == NULL)
        return 0;
    at += strlen(key);
    at += strspn(at, " \"");
    size_t length = strcspn(at, "\",}\n");
    if (length >= room)
        return 0;
    memcpy(value, at, length);
    value[length] = '\0';
    return 1;
}

static size_t unhex(const char *text, uint8_t *bytes)
{
    size_t count = strlen(text) / 2;
    for (size_t i = 0; i < count; i++) {
        unsigned byte;
        sscanf(text + 2 * i, "%2x", &byte);
        bytes[i] = (uint8_t)byte;
    }
    return count;
}

int main(int argc, char **argv)
{
    static char id[80], level[8], node[16], expect[32], text[200000];
    static uint8_t payload[100000];
    int steps = 0, musts = 0, others = 0;
    char *line = NULL;
    size_t room = 0;
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (file == NULL) {
            perror(argv[i]);
            return 2;
        }
        while (getline(&line, &room, file) > 0) {
            if (strncmp(line, "  {\"node\"", 9) != 0) {
                field(line, "id", id, sizeof id);
                field(line, "level", level, sizeof level);
                continue;
            }
            if (!field(line, "node", node, sizeof node) ||
                !field(line, "expect", expect, sizeof expect) ||
                !field(line, "payload", text, sizeof text)) {
                fprintf(stderr, "%s: a line that is no step: %.60s\n", argv[i], line);
                return 2;
            }
            int returned = forwards(node, payload, unhex(text, payload));
            int wanted = strncmp(expect, "returned", 8) == 0;
            steps++;
            if (strcmp(expect, "any") == 0 || returned == wanted)
                continue;
            printf("%s %s: %s, and was %s\n", level, id, expect, returned ? "returned" : "dropped");
            *(strcmp(level, "MUST") == 0 ? &musts : &others) += 1;
        }
        fclose(file);
    }
    free(line);
    printf("%d steps, %d not as they must be, %d not as they should be\n", steps, musts, others);
    return musts != 0;
}
